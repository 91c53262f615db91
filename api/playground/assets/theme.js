"use strict";
// Before anything is drawn: the colours chosen last, else those of the system.
(() => {
  const chosen = localStorage.getItem("kvasir-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
