/* What the theme leaves out for people who read with a keyboard or a screen reader. */
document.addEventListener("DOMContentLoaded", () => {
  const each = (selector, change) => document.querySelectorAll(selector).forEach(change);

  // Everything on a page belongs to a landmark.
  each("#pst-primary-sidebar", (box) => {
    box.setAttribute("role", "complementary");
    box.setAttribute("aria-label", "The book");
  });
  // A control is called what it says: the theme's hidden names hide the words one sees.
  each("summary[aria-label]", (summary) => summary.removeAttribute("aria-label"));
  each(".search-button__kbd-shortcut", (keys) => keys.setAttribute("aria-hidden", "true"));

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
