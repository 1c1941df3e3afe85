// SPDX-License-Identifier: Apache-2.0
// Sets the chosen theme and language before the first paint; the policy forbids doing so inline.
(function () {
  try {
    var theme = localStorage.getItem("parley.theme");
    if (theme && theme !== "system") document.documentElement.dataset.theme = theme;
  } catch (_) {}
})();
