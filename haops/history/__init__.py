"""Histories: what clients asked and were told, kept so that anybody can judge it."""
