"""Each reader: a file -> fields of pack_tokenizer; pieces are the bytes they print."""
