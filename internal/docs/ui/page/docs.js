// This is a separate file because the policy of the page does not allow inline scripts.
const ui = SwaggerUIBundle({
  url: '/openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  displayOperationId: false,
  docExpansion: 'none',
  defaultModelsExpandDepth: -1,
  filter: true,
  // For x-mesh-roles, x-mesh-type and x-mesh-verification.
  showExtensions: true,
  // Any other value would send the document to a validator on the internet.
  validatorUrl: null,
  // Swagger UI does not label the list of servers.
  onComplete: () => document.getElementById('servers')?.setAttribute('aria-label', 'Server'),
});

// The form with the test keys of the sandbox.
document.getElementById('test-key')?.addEventListener('submit', (event) => {
  event.preventDefault();
  const chosen = document.getElementById('key').selectedOptions[0];
  // ui.preauthorizeApiKey would not persist after a reload.
  const { authActions, specSelectors } = ui.getSystem();
  const schemes = specSelectors.specJson().getIn(['components', 'securitySchemes']);
  for (const [name, value] of Object.entries({ apiKey: chosen.dataset.key, group: chosen.dataset.group })) {
    authActions.authorizeWithPersistOption({ [name]: { name, schema: schemes.get(name), value } });
  }
  document.getElementById('authorised').value = `Calls are made as ${chosen.textContent.split(':')[0]}.`;
});
