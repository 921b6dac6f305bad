"""TwelveLabs: Marengo, over the official SDK."""
