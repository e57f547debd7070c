/* What the theme leaves out for people who read with a keyboard or a screen reader. */

// A page opened from a file may not fetch other pages: there the search shows titles without excerpts.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

document.addEventListener("DOMContentLoaded", () => {
  const each = (selector, change) => document.querySelectorAll(selector).forEach(change);

  // Everything on a page belongs to a landmark.
  each("#pst-primary-sidebar", (box) => {
    box.setAttribute("role", "complementary");
    box.setAttribute("aria-label", "The book");
  });
  // A control is called what it says: the theme's own names hide the words one sees.
  each("summary[aria-label], .search-button-field", (control) => control.removeAttribute("aria-label"));
  each(".theme-switch-button", (button) =>
    button.setAttribute("aria-label", "Color mode: Light, Dark or System Settings")
  );
  // The bibliography is a list of what it lists.
  each(".citation-list > .citation", (entry) => entry.setAttribute("role", "listitem"));

  // A formula wider than its box can be reached, and so scrolled, with the keyboard.
  const reach = (box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  const widths = new ResizeObserver((entries) => entries.forEach(({ target }) => reach(target)));
  window.addEventListener("load", () =>
    window.MathJax?.startup?.promise?.then(() =>
      each("div.math, span.math mjx-container", (box) => widths.observe(box))
    )
  );
});
