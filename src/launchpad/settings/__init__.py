"""The settings: `model.py` is the whole, the other modules its sections; `file.py` alone reads files and variables."""

from .backup import BackupSettings
from .capacity import CapacitySettings, LabCapacitySettings, QueueSettings
from .environments import EnvironmentSettings, OfferSettings, SafeModeSettings
from .file import load_settings, tables
from .images import ImageSettings
from .mail import BounceSettings, MailSettings
from .model import EgressSettings, EngineSettings, HomesSettings, MountSettings, Settings
from .sign_in import SignInSettings

__all__ = [
    "BackupSettings",
    "BounceSettings",
    "CapacitySettings",
    "EgressSettings",
    "EngineSettings",
    "EnvironmentSettings",
    "HomesSettings",
    "ImageSettings",
    "LabCapacitySettings",
    "MailSettings",
    "MountSettings",
    "OfferSettings",
    "QueueSettings",
    "SafeModeSettings",
    "Settings",
    "SignInSettings",
    "load_settings",
    "tables",
]
