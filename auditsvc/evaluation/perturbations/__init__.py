"""What is done to images: corruptions, lighting, occlusion, other cameras."""
