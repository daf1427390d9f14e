// Uses the page as a person would, in the installed Chromium:
//   node check.mjs PAGE GATEWAY
import { chromium } from 'playwright-core';

const [page, gateway] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-component-update'],
});
try {
  const tab = await browser.newPage();
  tab.setDefaultTimeout(30_000);
  tab.on('pageerror', (error) => { throw error; });
  await tab.goto(page);
  await tab.getByLabel('Address').fill(gateway);

  await tab.getByRole('button', { name: 'Search' }).click();
  await tab.getByRole('cell', { name: 'BUY 2000 XLM at 0.3 USDC' }).waitFor();
  console.log('found the seeded order');

  await tab.getByRole('button', { name: 'Place the order' }).click();
  await tab.getByText('is COMPLETE, filled 1200').waitFor();
  const seen = await tab.locator('#watched li').allTextContents();
  console.log(seen.join('\n'));
  if (seen.length < 2) throw new Error('the page did not show a change of the order');

  await tab.getByLabel('Quantity').fill('-1');
  await tab.getByRole('button', { name: 'Place the order' }).click();
  await tab.getByRole('alert').waitFor();
  console.log(`error: ${await tab.getByRole('alert').textContent()}`);
  if (process.env.SCREENSHOT) await tab.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
} finally {
  await browser.close();
}
