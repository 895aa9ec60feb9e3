/* Installed setuid root in the nonewprivs image: shows whether the bit took effect. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
  printf("Effective uid: %d\n", (int)geteuid());
  return 0;
}
