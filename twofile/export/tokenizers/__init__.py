"""Each reader: a file -> fields of pack_tokenizer."""
