package deploy_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// passwords are what .env must have.
var passwords = []string{"POSTGRES_PASSWORD=not-a-password", "GRAFANA_PASSWORD=not-a-password"}

// loadCompose reads compose files as "docker compose config" does.
func loadCompose(env []string, files ...string) (*types.Project, error) {
	for i, file := range files {
		files[i] = filepath.Join("compose", file)
	}
	options, err := cli.NewProjectOptions(files, cli.WithEnv(env), cli.WithResolvedPaths(true))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

// projects are the stacks that the files describe.
func projects(t *testing.T) map[string]*types.Project {
	t.Helper()
	all := map[string]*types.Project{}
	for name, files := range map[string][]string{
		"compose.yaml":                  {"compose.yaml"},
		"compose.yaml and sandbox.yaml": {"compose.yaml", "sandbox.yaml"},
	} {
		project, err := loadCompose(passwords, files...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = project
	}
	return all
}

func TestComposeNeedsPasswords(t *testing.T) {
	_, err := loadCompose(nil, "compose.yaml")
	if err == nil || !strings.Contains(err.Error(), "POSTGRES_PASSWORD") {
		t.Errorf("got error %v, want one about POSTGRES_PASSWORD", err)
	}
	example, err := os.ReadFile("compose/.env.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range passwords {
		if name, _, _ := strings.Cut(password, "="); !strings.Contains(string(example), "\n"+name+"=\n") {
			t.Errorf(".env.example does not have %s, without a value", name)
		}
	}
}

func TestComposeStartsInOrder(t *testing.T) {
	for name, project := range projects(t) {
		for _, service := range project.Services {
			t.Run(name+"/"+service.Name, func(t *testing.T) {
				for dependency, how := range service.DependsOn {
					checked := project.Services[dependency].HealthCheck != nil && !project.Services[dependency].HealthCheck.Disable
					if how.Condition == types.ServiceConditionStarted && checked {
						t.Errorf("does not wait until %s is healthy", dependency)
					}
					if how.Condition == types.ServiceConditionHealthy && !checked {
						t.Errorf("waits for the health of %s, which is not checked", dependency)
					}
				}
				if service.HealthCheck == nil {
					t.Error("has no health check; disable it where there is none")
				}
			})
		}
		gateway := project.Services["gateway"]
		for dependency, want := range map[string]string{
			"migration": types.ServiceConditionCompletedSuccessfully,
			"postgres":  types.ServiceConditionHealthy,
			"redis":     types.ServiceConditionHealthy,
		} {
			if got := gateway.DependsOn[dependency].Condition; got != want {
				t.Errorf("%s: the gateway waits for %s: %q, want %q", name, dependency, got, want)
			}
		}
	}
}

func TestComposeGateways(t *testing.T) {
	for name, project := range projects(t) {
		t.Run(name, func(t *testing.T) {
			gateway := project.Services["gateway"]
			if got := gateway.GetScale(); got != 2 {
				t.Errorf("%d gateways, want 2", got)
			}
			for _, service := range []string{"gateway", "balancer"} {
				grace := project.Services[service].StopGracePeriod
				if grace == nil || time.Duration(*grace) <= time.Duration(shutdownTimeout(t))*time.Second {
					t.Errorf("%s has %v to stop, and a shutdown may take %d seconds", service, grace, shutdownTimeout(t))
				}
			}
			if got := gateway.Environment["MESH_GATEWAY_TRUSTED_PROXY"]; got == nil || *got != project.Networks["front"].Ipam.Config[0].Subnet {
				t.Error("the gateway does not trust the load balancer's network")
			}
			if len(gateway.Ports) > 0 {
				t.Error("the gateway can be reached past the load balancer")
			}
		})
	}
}

func TestComposeIsClosed(t *testing.T) {
	for name, project := range projects(t) {
		for _, service := range project.Services {
			t.Run(name+"/"+service.Name, func(t *testing.T) {
				for _, port := range service.Ports {
					if port.HostIP != "127.0.0.1" {
						t.Errorf("publishes %s on %q, not 127.0.0.1", port.Published, port.HostIP)
					}
				}
				if !slices.Contains(service.SecurityOpt, "no-new-privileges:true") {
					t.Error("may gain privileges")
				}
				if service.Build != nil && (!service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"})) {
					t.Error("may write to its root or has capabilities")
				}
			})
		}
	}
}

func TestComposePinsImages(t *testing.T) {
	for name, project := range projects(t) {
		for _, service := range project.Services {
			if service.Build != nil {
				continue
			}
			_, tag, _ := strings.Cut(service.Image, ":")
			if !strings.Contains(tag, ".") {
				t.Errorf("%s: %s uses %s, which is not one version", name, service.Name, service.Image)
			}
		}
	}
}

// A file that is missing would become a directory.
func TestComposeMountsWhatExists(t *testing.T) {
	for name, project := range projects(t) {
		for _, service := range project.Services {
			for _, volume := range service.Volumes {
				if volume.Type != types.VolumeTypeBind {
					continue
				}
				if _, err := os.Stat(volume.Source); err != nil {
					t.Errorf("%s: %s: %v", name, service.Name, err)
				}
				if !volume.ReadOnly {
					t.Errorf("%s: %s may write to %s", name, service.Name, volume.Source)
				}
			}
		}
	}
}

func TestLoadBalancer(t *testing.T) {
	run(t, "haproxy", "-c", "-f", "compose/haproxy.cfg")
}
