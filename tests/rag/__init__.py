"""The online side: values, settings, pipelines, prompts, models."""
