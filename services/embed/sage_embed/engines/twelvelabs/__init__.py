"""The engine for TwelveLabs: Marengo, through the official SDK."""
