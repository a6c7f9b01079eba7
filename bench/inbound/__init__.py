"""Loading a listing of records into a table: this project next to other loaders."""
