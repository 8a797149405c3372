"""Each reader: a path -> config, rope, tensors, tokenizer, note."""
