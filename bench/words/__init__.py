"""What people read, in the languages of the guide and ours: texts, numbers, quotes."""
