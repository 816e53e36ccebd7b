"""Pure functions from what clients were told to what is there: findings with evidence."""
