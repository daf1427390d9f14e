// In a file of its own, so that the page needs no inline script.
SwaggerUIBundle({
  url: '/openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  docExpansion: 'none',
  defaultModelsExpandDepth: -1,
  filter: true,
  // For x-mesh-roles and x-mesh-type.
  showExtensions: true,
  // Unless null, the document is sent to a validator on the internet.
  validatorUrl: null,
});
