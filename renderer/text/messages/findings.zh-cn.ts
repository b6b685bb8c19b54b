// What a check commonly finds, and what a repair would do, in Chinese: a pattern of the English sentence and the Chinese one for it. Faults of
// the structures of one format keep their English sentence, which is what its specification and other programs know them by.

export const findingsZhCN: readonly (readonly [RegExp, string])[] = [
  [/^Leaked cluster (\d+) refcount=(\d+) reference=(\d+)$/, '泄漏的簇 $1：引用计数为 $2，实际引用 $3 次'],
  [/^ERROR cluster (\d+) refcount=(\d+) reference=(\d+)$/, '簇 $1 的引用计数有误：记录为 $2，实际引用 $3 次'],
  [/^Leaked space for (\d+) clusters? at offset (\d+)$/, '偏移 $2 处有 $1 个簇的空间泄漏'],
  [/^Leaked space for (\d+) blocks? at offset (\d+)$/, '偏移 $2 处有 $1 个块的空间泄漏'],
  [/^ERROR no key slot is enabled: no passphrase opens this disk$/, '没有启用任何密钥槽：没有密码能打开此磁盘'],
  [/^ERROR the footer at the end of the file is missing$/, '文件末尾缺少页脚'],
  [/^ERROR the checksum of the footer at the end of the file is wrong$/, '文件末尾页脚的校验和有误'],
  [/^ERROR the checksum of the dynamic disk header is wrong$/, '动态磁盘头的校验和有误'],
  [/^the refcount would be set to (\d+)$/, '引用计数将设为 $1'],
  [/^the refcount structures would be rebuilt$/, '将重建引用计数结构'],
  [/^the copied bit would be corrected$/, '将更正 copied 位'],
  [/^the snapshot table would be written anew$/, '将重新写入快照表'],
  [/^the entry would become plain zeroes: it holds no data$/, '该表项将变为普通的零：其中没有数据'],
  [/^the log would be replayed$/, '将重放日志'],
  [/^the log would be marked empty$/, '日志将标记为空'],
  [/^with relink, the image takes the parent as it is now$/, '选择重新链接后，映像将接受父映像的当前状态'],
  [/^convert the image( to leave them behind)?$/, '转换此映像即可去除'],
  [/^write the checksum again$/, '将重新写入校验和'],
  [/^write the count again$/, '将重新写入计数'],
  [/^give it a UUID$/, '将为其分配 UUID'],
  [/^copy the grain tables over the redundant ones$/, '将用主颗粒表覆盖冗余颗粒表'],
];
