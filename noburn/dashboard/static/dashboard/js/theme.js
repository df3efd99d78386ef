// Light, dark, or as the system has it. Runs before the page is painted, so that nothing flashes.
(() => {
  "use strict";
  const NAME = "noburn-theme";
  const read = () => {
    try { return localStorage.getItem(NAME) || "auto"; } catch { return "auto"; }
  };
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  apply(read());
  document.addEventListener("DOMContentLoaded", () => {
    const show = () => {
      for (const button of document.querySelectorAll("[data-set-theme]"))
        button.setAttribute("aria-pressed", String(button.dataset.setTheme === read()));
    };
    for (const group of document.querySelectorAll(".theme")) group.hidden = false;
    document.addEventListener("click", (event) => {
      const button = event.target.closest("[data-set-theme]");
      if (!button) return;
      try { localStorage.setItem(NAME, button.dataset.setTheme); } catch { /* Nothing is kept then. */ }
      apply(button.dataset.setTheme);
      show();
    });
    show();
  });
})();
