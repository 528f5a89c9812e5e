"""Published sources about the speed of such networks: what their authors claim, and what is measured here."""
