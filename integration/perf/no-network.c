/* A CNI plugin that does nothing: a network whose price does not hide that of anything else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
  const char *command = getenv("CNI_COMMAND");
  if (!command) return 1;
  while (getchar() != EOF) {} /* the configuration */
  if (!strcmp(command, "ADD")) puts("{\"cniVersion\": \"1.0.0\", \"interfaces\": [], \"ips\": [{\"address\": \"192.0.2.1/32\"}]}");
  if (!strcmp(command, "VERSION")) puts("{\"cniVersion\": \"1.0.0\", \"supportedVersions\": [\"1.0.0\"]}");
  return 0;
}
