"""What tests share: small models, a Hub of their own, a full disk, slow references."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
