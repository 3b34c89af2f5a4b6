"""JSON Web Tokens, as `envoy.filters.http.jwt_authn` verifies them: from where they stand in a request to the keys that
prove them. Imported only when a chain has the filter. MUST NOT know of protobufs: `filters.jwt_authn` compiles them.
"""
