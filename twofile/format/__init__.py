"""What stands in a model.bin."""
