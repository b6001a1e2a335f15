# For login shells, such as JupyterLab's and RStudio's terminals: /etc/profile has set PATH anew. What pip and pipx install
# into the home is found, except by root and in safe mode.
if [ "$(id -u)" -ne 0 ] && [ "${LAUNCHPAD_SAFE_MODE-}" != 1 ]; then
  case ":$PATH:" in
    *":$HOME/.local/bin:"*) ;;
    *) PATH="$HOME/.local/bin:$PATH" ;;
  esac
fi
# Once, that packages were left behind by another version of R or Python.
if [ "${LAUNCHPAD_SAFE_MODE-}" != 1 ] && [ "$(id -u)" -ne 0 ]; then
  case $- in *i*) /opt/launchpad/bin/library-notice ;; esac
fi
# Where memory runs short, what was started in a terminal ends before the IDE does; the platform sees to it as well.
{ echo 900 >/proc/self/oom_score_adj; } 2>/dev/null || :
