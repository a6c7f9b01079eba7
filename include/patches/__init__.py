"""What a search index gets back after each rebuild: one module per patch."""
