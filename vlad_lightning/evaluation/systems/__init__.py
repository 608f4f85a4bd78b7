"""Systems to evaluate: pipelines and trained modules of this project, published weights, any that diffusers loads."""

from vlad_lightning.evaluation.systems.opened_system import OpenSystem
from vlad_lightning.evaluation.systems.opening import open_module, open_system
from vlad_lightning.evaluation.systems.system_settings import SystemSettings

__all__ = ["OpenSystem", "SystemSettings", "open_module", "open_system"]
