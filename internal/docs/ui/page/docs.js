// In a file of its own, so that the page needs no inline script.
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
  // Unless null, the document is sent to a validator on the internet.
  validatorUrl: null,
  // Swagger UI gives it no name.
  onComplete: () => document.getElementById('servers')?.setAttribute('aria-label', 'Server'),
});

// The ribbon of the sandbox.
document.getElementById('test-key')?.addEventListener('submit', (event) => {
  event.preventDefault();
  const chosen = document.getElementById('key').selectedOptions[0];
  // Not ui.preauthorizeApiKey, which a reload forgets.
  const { authActions, specSelectors } = ui.getSystem();
  const schemes = specSelectors.specJson().getIn(['components', 'securitySchemes']);
  for (const [name, value] of Object.entries({ apiKey: chosen.dataset.key, group: chosen.dataset.group })) {
    authActions.authorizeWithPersistOption({ [name]: { name, schema: schemes.get(name), value } });
  }
  document.getElementById('authorised').value = `Calls are made as ${chosen.textContent.split(':')[0]}.`;
});
