"""Image perturbations: corruptions, lighting, occlusion, camera changes."""
