"""Each reader: a path -> config, rope, tensors {canonical name: Rows or vector}, tokenizer, note."""
