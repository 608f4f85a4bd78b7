"""Systems to evaluate, opened by name: pipelines of this project, published weights, and any that diffusers loads."""

from vlad_lightning.evaluation.systems.opened_system import OpenSystem
from vlad_lightning.evaluation.systems.opening import open_system
from vlad_lightning.evaluation.systems.system_settings import SystemSettings

__all__ = ["OpenSystem", "SystemSettings", "open_system"]
