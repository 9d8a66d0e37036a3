"""Make a trained model one's own: fine-tuning, adapters, learning from a person."""
