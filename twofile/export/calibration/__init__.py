"""What errors of weights cost, by what the model's matrices are given."""
