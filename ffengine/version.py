"""The version of the numerics: it changes whenever a figure could."""

ENGINE_VERSION = "0.2.0"
