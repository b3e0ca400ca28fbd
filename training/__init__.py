"""What makes `lvmzoo/weights` and `model_cards`. Runs from a checkout; not in the wheel."""
