// The guide works without this script, which remembers the language and adds copy buttons.
const languages = document.querySelectorAll('input[name="language"]');
const remembered = localStorage.getItem('language');
for (const input of languages) {
  input.checked = remembered ? input.value === remembered : input.checked;
  input.addEventListener('change', () => localStorage.setItem('language', input.value));
}
if (![...languages].some((input) => input.checked)) languages[0].checked = true;

for (const pre of document.querySelectorAll('pre')) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'copy';
  button.textContent = 'Copy';
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(pre.querySelector('code').textContent);
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
  });
  const block = document.createElement('div');
  block.className = 'code';
  pre.replaceWith(block);
  block.append(pre, button);
}

// If no public address is configured, the snippets use the address of this page.
const address = document.querySelector('[data-address]');
if (address?.dataset.address === '') address.textContent = location.origin;
