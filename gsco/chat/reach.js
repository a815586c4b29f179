() => {
  // The conversation scrolls, so that a keyboard must be able to reach it; Gradio forgets that.
  const reach = () => document.querySelectorAll(".bubble-wrap:not([tabindex])")
    .forEach((one) => one.setAttribute("tabindex", "0"));
  new MutationObserver(reach).observe(document.body, { childList: true, subtree: true });
  reach();
}
