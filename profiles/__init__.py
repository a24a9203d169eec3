"""The named settings: one YAML file per profile, validated by `cyclealign.settings`."""
