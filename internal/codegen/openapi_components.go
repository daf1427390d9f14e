package main

const (
	// statusSchema is named as the plugin names its schemas: by the message.
	statusSchema = "google.rpc.Status"
	// errorResponse is the one error response, which all operations refer to.
	errorResponse = "Error"
)

func jsonContent(schema object) object {
	return object{"application/json": object{"schema": schema}}
}

func status() object {
	return object{
		"type":        "object",
		"description": "The error model of gRPC.",
		"properties": object{
			"code": object{
				"type":        "integer",
				"format":      "int32",
				"description": "The gRPC status code, a number of google.rpc.Code.",
			},
			"message": object{
				"type":        "string",
				"description": "What went wrong, in English and for developers.",
			},
			"details": object{
				"type":        "array",
				"description": "What programs can read, such as google.rpc.ErrorInfo, google.rpc.BadRequest and google.rpc.RequestInfo.",
				"items": object{
					"type":                 "object",
					"properties":           object{"@type": object{"type": "string", "description": "The type of the detail, type.googleapis.com/ before the message's name."}},
					"additionalProperties": true,
				},
			},
		},
	}
}

func securitySchemes() object {
	return object{
		"apiKey": object{
			"type":        "apiKey",
			"in":          "header",
			"name":        "X-Api-Key",
			"description": "The API key of an API user.",
		},
		"bearer": object{
			"type":        "http",
			"scheme":      "bearer",
			"description": "The API key, for clients that can send Authorization but not X-Api-Key.",
		},
		"group": object{
			"type":        "apiKey",
			"in":          "header",
			"name":        "X-Group",
			"description": "The group to act for, as groups/{ULID}.",
		},
	}
}
