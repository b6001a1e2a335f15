// The pages work without any of this; it makes them livelier.
import { startThemes } from "./themes.js";
import { startTimes } from "./times.js";
import { startForms } from "./forms.js";
import { startHold } from "./hold.js";
import { startLive } from "./live.js";
import { startPasskeys } from "./passkeys.js";
import { startRegions } from "./regions.js";
import { startDialogs } from "./dialogs.js";
import { startToasts } from "./toasts.js";
import { startOnline } from "./online.js";
import { startTimeZone } from "./timezone.js";

startThemes();
startTimes();
startRegions();
startForms();
startLive();
startHold();
startPasskeys();
startDialogs();
startToasts();
startOnline();
startTimeZone();
