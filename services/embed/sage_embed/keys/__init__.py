"""The provider's API key: set, checked, stored encrypted, and provided to the engines."""
