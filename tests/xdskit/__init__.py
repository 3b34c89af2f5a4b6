"""What tests of the control plane's wire share: meshes from YAML, resources as JSON, a real Envoy to judge them."""
