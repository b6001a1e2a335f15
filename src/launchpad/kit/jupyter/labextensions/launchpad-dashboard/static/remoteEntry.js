// A prebuilt extension of JupyterLab (3 and later), written by hand: the container of webpack's module federation that
// JupyterLab looks for, with one plugin in it. The address is put in when the platform writes this file.
(() => {
  const ADDRESS = "@DASHBOARD_URL@";
  const COMMAND = "launchpad:dashboard";
  const LABEL = "Launchpad dashboard";
  const ICON =
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 16 16"><g class="jp-icon3" fill="#616161">' +
    '<path d="M2 2h5v6H2zM9 2h5v3H9zM9 7h5v7H9zM2 10h5v4H2z"/></g></svg>';
  let shared = {};

  // What JupyterLab shares under that name; undefined where this version has no such module.
  async function load(name) {
    const versions = shared[name];
    if (!versions) return undefined;
    const newest = Object.keys(versions).sort((a, b) => a.localeCompare(b, undefined, { numeric: true })).pop();
    return (await versions[newest].get())();
  }

  async function plugin() {
    const [launching, utils, components] = await Promise.all(
      ["@jupyterlab/launcher", "@jupyterlab/apputils", "@jupyterlab/ui-components"].map(load)
    );
    const wanted = [launching && launching.ILauncher, utils && utils.ICommandPalette].filter(Boolean);
    const icon = components && new components.LabIcon({ name: COMMAND, svgstr: ICON });
    return {
      id: "launchpad-dashboard:plugin",
      autoStart: true,
      optional: wanted,
      activate: (app, ...services) => {
        app.commands.addCommand(COMMAND, {
          label: LABEL,
          caption: "Time left, extend, stop: opens the dashboard in a new tab",
          icon: (args) => (args && args.isPalette ? undefined : icon),
          execute: () => {
            window.open(ADDRESS, "_blank", "noopener");
          },
        });
        for (const service of services) {
          // The palette has addItem, the launcher add; what an application such as Notebook lacks is null.
          if (service && service.addItem) {
            service.addItem({ command: COMMAND, category: "Help", args: { isPalette: true } });
          } else if (service && service.add) {
            service.add({ command: COMMAND, category: "Other", rank: 100 });
          }
        }
      },
    };
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB["launchpad-dashboard"] = {
    init: (scope) => {
      shared = scope;
    },
    get: async () => {
      const made = await plugin();
      return () => ({ __esModule: true, default: made });
    },
  };
})();
