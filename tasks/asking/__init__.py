"""The protocol of a paid call, one for every question: pace, and batches."""
