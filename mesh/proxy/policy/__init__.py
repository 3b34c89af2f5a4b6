"""Decisions about requests that several filters share: access control, tokens, external authorization, rate limits."""
