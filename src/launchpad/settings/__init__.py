"""The settings: `model.py` is the whole, the other modules its sections; `file.py` alone reads files and variables."""

from .activity import ActivitySettings, PersonSettings
from .backup import BackupSettings
from .capacity import CapacitySettings, LabCapacitySettings, QueueSettings
from .ends import EndSettings
from .environments import EnvironmentSettings, OfferSettings, SafeModeSettings
from .file import load_settings, tables
from .files import FilesSettings
from .idle import IdleRuleSettings, IdleSettings
from .images import ImageSettings
from .leaving import LeavingSettings
from .mail import BounceSettings, MailSettings
from .model import EgressSettings, EngineSettings, HomesSettings, MountSettings, Settings
from .sign_in import SignInSettings
from .snapshots import SnapshotSettings

__all__ = [
    "ActivitySettings",
    "BackupSettings",
    "BounceSettings",
    "CapacitySettings",
    "EgressSettings",
    "EndSettings",
    "EngineSettings",
    "EnvironmentSettings",
    "FilesSettings",
    "HomesSettings",
    "IdleRuleSettings",
    "IdleSettings",
    "ImageSettings",
    "LabCapacitySettings",
    "LeavingSettings",
    "MailSettings",
    "MountSettings",
    "OfferSettings",
    "PersonSettings",
    "QueueSettings",
    "SafeModeSettings",
    "Settings",
    "SignInSettings",
    "SnapshotSettings",
    "load_settings",
    "tables",
]
