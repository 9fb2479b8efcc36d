"""A small project that runs in its own process: settings, apps and a story."""
