"""A small project in a process of its own: its settings, its apps, and its story."""
