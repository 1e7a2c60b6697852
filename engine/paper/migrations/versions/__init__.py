"""One module per revision: 001 to 011 are the platform's schema, 012 to 014 the market maker's extension."""
