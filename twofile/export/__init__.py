"""From anybody's trained model to model.bin and tokenizer.bin."""
