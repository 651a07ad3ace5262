// What differs between two tellings of one story, and whether that is explained.

/** The lines of each section that only one of the two has; sections without any are left out. */
export function compare(node, other) {
  const titles = new Set([...node.keys(), ...other.keys()]);
  const found = [];
  for (const section of titles) {
    const [left, right] = [node.get(section) ?? [], other.get(section) ?? []];
    const common = longestCommon(left, right);
    const onlyNode = left.filter((_, i) => !common.left.has(i));
    const onlyOther = right.filter((_, i) => !common.right.has(i));
    if (onlyNode.length + onlyOther.length > 0) {
      found.push({ section, node: onlyNode, sockeye: onlyOther });
    }
  }
  return found;
}

/** Which lines of both are a longest common subsequence. */
function longestCommon(left, right) {
  const lengths = Array.from({ length: left.length + 1 }, () => new Array(right.length + 1).fill(0));
  for (let i = left.length - 1; i >= 0; i -= 1) {
    for (let j = right.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = left[i] === right[j]
        ? lengths[i + 1][j + 1] + 1
        : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const common = { left: new Set(), right: new Set() };
  for (let i = 0, j = 0; i < left.length && j < right.length; ) {
    if (left[i] === right[j]) {
      common.left.add(i);
      common.right.add(j);
      i += 1;
      j += 1;
    } else if (lengths[i + 1][j] >= lengths[i][j + 1]) i += 1;
    else j += 1;
  }
  return common;
}

/** The listed difference that is this one, if it is listed. */
export function explanation(listed, story, mode, { section, node, sockeye }) {
  return listed.find((one) => {
    return one.story === story
      && (one.modes ?? [mode]).includes(mode)
      && one.section === section
      && JSON.stringify(one.node) === JSON.stringify(node)
      && JSON.stringify(one.sockeye) === JSON.stringify(sockeye);
  });
}

export function describe(story, mode, { section, node, sockeye }) {
  const lines = [...node.map((line) => `  node     ${line}`), ...sockeye.map((line) => `  sockeye  ${line}`)];
  return [`${story} (${mode}), ${section}:`, ...lines].join("\n");
}
