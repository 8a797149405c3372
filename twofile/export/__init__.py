"""From a trained model of anybody's to model.bin and tokenizer.bin; not part of run.py."""
